umask 077
sse-server token new --name backend --publish '*' > backend-token
sse-server token new --name operator --admin --expires 90d > operator-token
sse-server config check --config hub.toml
