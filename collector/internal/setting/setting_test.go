package setting

import "testing"

func TestOnlyLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.1.2.3:80": true, "[::1]:80": true, "127.0.0.1:0": true, "[::ffff:127.0.0.1]:80": true,
		"0.0.0.0:80": false, "[::]:80": false, ":80": false, "192.168.1.2:80": false, "8.8.8.8:80": false, "[2001:db8::1]:80": false,
		"localhost:80": false, "127.0.0.1": false, "127.0.0.1:": false, "127.0.0.1:http": false, "127.0.0.1:99999": false, "127.0.0.1.example.org:80": false, "": false,
	} {
		if got := loopback(addr); got != want {
			t.Errorf("%q is loopback: %t", addr, got)
		}
	}
}
