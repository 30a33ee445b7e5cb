const source = new EventSource("/events");
source.onmessage = (event) => show(event.data);
source.addEventListener("gap", () => location.reload()); // something was missed
