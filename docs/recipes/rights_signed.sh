umask 077
sse-server token sign --jwt-secret hub-secret --issuer app.example --audience hub --user ann --subscribe news > ann-token
sse-server access check --config ticket_hub.toml --token - --topic user/ann < ann-token
! sse-server access check --config ticket_hub.toml --token - --topic user/bob < ann-token || exit 1
