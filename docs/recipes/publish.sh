curl -fsS http://127.0.0.1:8080/events -H "Authorization: Bearer $(cat backend-token)" \
  -H 'Content-Type: application/json' -d '{"topic": "user/ann", "data": "your report is ready"}'
