import { render } from "preact";
import { useEffect, useState } from "preact/hooks";

function Guestbook() {
  const [names, setNames] = useState<string[]>([]);
  const [name, setName] = useState("");

  const load = () => fetch("/api/guests").then((r) => r.json()).then(setNames);
  const sign = (event: Event) => {
    event.preventDefault();
    fetch("/api/guests", { method: "POST", body: name }).then(load);
    setName("");
  };
  useEffect(() => void load(), []);

  return (
    <main>
      <h1>Guestbook</h1>
      <form onSubmit={sign}>
        <input value={name} onInput={(e) => setName(e.currentTarget.value)} placeholder="your name" required />
        <button>sign</button>
      </form>
      <ul>{names.map((n) => <li>{n}</li>)}</ul>
    </main>
  );
}

render(<Guestbook />, document.body);
