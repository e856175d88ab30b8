// Paths URL...: a GET of each by java.net.http, which sends the path of a URI as it was put together. Tells the bodies.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

class Paths {
  public static void main(String[] urls) throws Exception {
    var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    for (var url : urls) {
      var response = client.send(HttpRequest.newBuilder(URI.create(url)).build(), BodyHandlers.ofString());
      System.out.printf("{\"status\": %d, \"body\": \"%s\"}%n", response.statusCode(), response.body());
    }
  }
}
