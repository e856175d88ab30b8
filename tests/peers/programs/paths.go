// paths URL...: a GET of each by net/http, which sends the path of a URL as it was put together. Tells the bodies.
package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
)

func main() {
	out := json.NewEncoder(os.Stdout)
	for _, url := range os.Args[1:] {
		response, err := http.Get(url)
		if err != nil {
			panic(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			panic(err)
		}
		out.Encode(map[string]any{"status": response.StatusCode, "body": string(body)})
	}
}
