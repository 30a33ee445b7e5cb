sse-server token list
sse-server token revoke "$ID"
