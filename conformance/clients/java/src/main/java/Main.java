import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.google.gson.ToNumberPolicy;
import io.harness.cf.client.api.BaseConfig;
import io.harness.cf.client.api.CfClient;
import io.harness.cf.client.api.Event;
import io.harness.cf.client.connector.HarnessConfig;
import io.harness.cf.client.connector.HarnessConnector;
import io.harness.cf.client.dto.Target;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/** An application with the published Java SDK (the language: ../README.md). */
public class Main {
  private static final Map<String, CfClient> APPS = new ConcurrentHashMap<>();
  private static final Gson GSON =
      new GsonBuilder().setObjectToNumberStrategy(ToNumberPolicy.LONG_OR_DOUBLE).create();

  public static void main(String[] arguments) throws Exception {
    ExecutorService threads = Executors.newCachedThreadPool();
    BufferedReader lines =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = lines.readLine()) != null; ) {
      JsonObject todo = JsonParser.parseString(line).getAsJsonObject();
      threads.submit(() -> carryOut(todo));
    }
    System.exit(0);
  }

  private static void carryOut(JsonObject todo) {
    JsonObject answer;
    try {
      answer = perform(todo);
    } catch (Throwable fault) {
      answer = new JsonObject();
      answer.addProperty("error", fault.toString());
    }
    answer.add("id", todo.get("id"));
    synchronized (GSON) {
      byte[] bytes = (answer + "\n").getBytes(StandardCharsets.UTF_8);
      System.out.write(bytes, 0, bytes.length);
      System.out.flush();
    }
  }

  private static JsonObject perform(JsonObject todo) throws Exception {
    String app = todo.get("app").getAsString();
    JsonObject answer = new JsonObject();
    switch (todo.get("do").getAsString()) {
      case "open" -> answer.addProperty("ready", open(app, todo));
      case "values" -> answer.add("values", values(APPS.get(app), todo));
      case "until" -> until(APPS.get(app), todo, answer);
      case "close" -> APPS.remove(app).close();
      default -> throw new IllegalArgumentException("nobody knows how to " + todo.get("do"));
    }
    return answer;
  }

  private static boolean open(String app, JsonObject todo) throws Exception {
    String url = todo.get("url").getAsString();
    HarnessConfig.HarnessConfigBuilder config =
        HarnessConfig.builder().configUrl(url).eventUrl(url);
    if (todo.has("ca")) {
      try (FileInputStream pem = new FileInputStream(todo.get("ca").getAsString())) {
        X509Certificate ca =
            (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(pem);
        config.tlsTrustedCAs(List.of(ca));
      }
    }
    CountDownLatch ready = new CountDownLatch(1);
    CfClient sdk =
        new CfClient(
            new HarnessConnector(todo.get("key").getAsString(), config.build()),
            BaseConfig.builder().build());
    APPS.put(app, sdk);
    sdk.on(Event.READY, text -> ready.countDown());
    Thread waiting =
        new Thread(
            () -> {
              try {
                sdk.waitForInitialization();
                ready.countDown();
              } catch (Exception fault) {
                // An SDK that gave up is not ready, which the deadline tells.
              }
            });
    waiting.setDaemon(true);
    waiting.start();
    return ready.await((long) (todo.get("seconds").getAsDouble() * 1000), TimeUnit.MILLISECONDS);
  }

  private static JsonArray values(CfClient sdk, JsonObject todo) {
    JsonArray values = new JsonArray();
    for (JsonElement ask : todo.getAsJsonArray("ask")) {
      try {
        values.add(evaluate(sdk, ask.getAsJsonObject()));
      } catch (RuntimeException fault) {
        JsonObject raised = new JsonObject();
        raised.addProperty("raised", fault.toString());
        values.add(raised);
      }
    }
    return values;
  }

  private static JsonElement evaluate(CfClient sdk, JsonObject ask) {
    String flag = ask.get("flag").getAsString();
    JsonElement fallback = ask.get("default");
    Target target = target(ask.getAsJsonObject("target"));
    return switch (ask.get("kind").getAsString()) {
      case "boolean" ->
          new JsonPrimitive(sdk.boolVariation(flag, target, fallback.getAsBoolean()));
      case "int" -> new JsonPrimitive(sdk.numberVariation(flag, target, fallback.getAsDouble()));
      case "json" -> sdk.jsonVariation(flag, target, fallback.getAsJsonObject());
      default -> new JsonPrimitive(sdk.stringVariation(flag, target, fallback.getAsString()));
    };
  }

  @SuppressWarnings("unchecked")
  private static Target target(JsonObject json) {
    Target.TargetBuilder target = Target.builder().identifier(json.get("identifier").getAsString());
    if (json.has("name")) {
      target.name(json.get("name").getAsString());
    }
    if (json.has("attributes") && json.get("attributes").isJsonObject()) {
      target.attributes(GSON.fromJson(json.get("attributes"), Map.class));
    }
    return target.build();
  }

  private static void until(CfClient sdk, JsonObject todo, JsonObject answer) throws Exception {
    long began = System.nanoTime();
    long deadline = began + (long) (todo.get("seconds").getAsDouble() * 1e9);
    while (true) {
      JsonArray last = values(sdk, todo);
      if (last.equals(todo.get("values"))) {
        answer.addProperty("seen", true);
        return;
      }
      if (System.nanoTime() > deadline) {
        answer.addProperty("seen", false);
        answer.add("last", last);
        return;
      }
      Thread.sleep(System.nanoTime() - began < 1e9 ? 10 : 100);
    }
  }
}
