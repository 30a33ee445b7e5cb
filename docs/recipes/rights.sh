sse-server access check --config hub.toml --token - --action publish --topic user/ann < backend-token
! sse-server access check --config hub.toml --token - --action admin < backend-token || exit 1
! sse-server access check --config hub.toml --topic news || exit 1
