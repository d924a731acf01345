var builder = WebApplication.CreateBuilder(args);
var port = Environment.GetEnvironmentVariable("PORT") ?? "8080";
builder.WebHost.UseUrls($"http://*:{port}");

var app = builder.Build();
app.MapGet("/healthz", () => "ok\n");
app.MapGet("/", (string? name) => $"Hello, {name ?? "world"}\n");
app.Run();
