import assert from "node:assert/strict";
import { test } from "node:test";
import { greeting } from "../dist/greeting.js";

test("greets by name", () => {
  assert.match(greeting("world"), /Hello, world/);
});

test("escapes the name", () => {
  assert.match(greeting("<b>"), /Hello, &lt;b&gt;/);
});
