package listener

import "net/http"

// Few has a handler answer only n requests at once, and tells others that they may come again: strangers take no place of agents'.
func Few(n int, h http.Handler) http.Handler {
	places := make(chan struct{}, n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			h.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "5")
			http.Error(w, "too many at once: try again", http.StatusServiceUnavailable)
		}
	})
}
