curl -fsS http://127.0.0.1:9090/admin/revocations -H "Authorization: Bearer $(cat operator-token)" \
  -H 'Content-Type: application/json' -d '{"user": "ann"}'
