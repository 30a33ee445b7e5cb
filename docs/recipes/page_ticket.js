let last = ""; // how far the page has read

async function post(url, headers = {}) {
  const answer = await fetch(url, {method: "POST", headers});
  if (answer.status === 401) location.reload(); // logged out
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return answer.json();
}

async function connect() {
  try {
    const {token} = await post("/hub-token");
    const {ticket} = await post(`${hub}/events/tickets`, {Authorization: `Bearer ${token}`});
    const since = last && `&last_event_id=${encodeURIComponent(last)}`;
    const source = new EventSource(`${hub}/events?ticket=${ticket}${since}`);
    source.addEventListener("connected", (event) => { last = event.lastEventId; });
    source.onmessage = (event) => { last = event.lastEventId; show(event.data); };
    source.addEventListener("unavailable", (event) => {
      if (["ticket_used", "expired"].includes(JSON.parse(event.data).code)) { source.close(); connect(); }
    });
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000); };
  } catch {
    setTimeout(connect, 5000);
  }
}
connect();
