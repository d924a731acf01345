import { createServer } from "node:http";
import { greeting } from "./greeting.js";

const port = Number(process.env.PORT ?? 8080);

const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://localhost");
  if (url.pathname === "/healthz") {
    response.end("ok\n");
    return;
  }
  response.setHeader("Content-Type", "text/html; charset=utf-8");
  response.end(greeting(url.searchParams.get("name") ?? "world"));
});

server.listen(port, () => console.log(`listening on port ${port}`));

// As process 1, node has no default action for signals.
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => server.close(() => process.exit(0)));
}
