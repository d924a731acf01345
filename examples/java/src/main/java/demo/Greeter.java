package demo;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;

/** Answers HTTP requests on $PORT with the JDK's own server. */
public final class Greeter {
    private Greeter() {}

    public static void main(String[] args) throws IOException {
        int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "8080"));
        HttpServer server = HttpServer.create(new InetSocketAddress(port), 0);
        server.createContext("/healthz", exchange -> answer(exchange, "ok\n"));
        server.createContext("/", exchange -> answer(exchange, greeting(exchange.getRequestURI().getQuery())));
        server.start();
        System.out.println("listening on port " + port);
    }

    static String greeting(String name) {
        return "Hello, " + (name == null || name.isBlank() ? "world" : name.strip()) + "\n";
    }

    private static void answer(HttpExchange exchange, String text) throws IOException {
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "text/plain; charset=utf-8");
        exchange.sendResponseHeaders(200, body.length);
        try (exchange) {
            exchange.getResponseBody().write(body);
        }
    }
}
