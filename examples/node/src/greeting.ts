import Mustache from "mustache";

const page = "<!doctype html><title>greeter</title><h1>Hello, {{name}}</h1>\n";

/** The page that greets name; the name is escaped. */
export function greeting(name: string): string {
  return Mustache.render(page, { name });
}
