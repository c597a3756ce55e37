package setting

import (
	"net/netip"

	"rawstone/pkg/config"
)

// API is the accounts' API for the maker's app, with TLS 1.3; for a process with the role web. It is off while Listen is empty.
type API struct {
	// Listen is its address, such as 0.0.0.0:8444; empty, the default, for none.
	Listen string `yaml:"listen"`
	// JWKS is the file with the authorization server's public keys (RFC 7517), which is read again when it changes. Issuer and Audience are what
	// its access tokens (RFC 9068) must say. Required with Listen.
	JWKS     string `yaml:"jwks"`
	Issuer   string `yaml:"issuer"`
	Audience string `yaml:"audience"`
	// LeewayS is how far the authorization server's clock may differ, in seconds, 0 to 120; default 10.
	LeewayS int `yaml:"leeway_s"`
	// Exchange is the equity statement that `collector equity` wrote; empty, the default, before there is one.
	Exchange string `yaml:"exchange"`
}

const maxLeewayS = 120

func (a *API) validate(f *config.Faults) {
	if a.LeewayS < 0 || a.LeewayS > maxLeewayS {
		f.Add("$.api.leeway_s", "%d is not from 0 to %d", a.LeewayS, maxLeewayS)
	}
	if a.Listen == "" {
		return
	}
	if _, err := netip.ParseAddrPort(a.Listen); err != nil {
		f.Add("$.api.listen", "%q is not IP:port such as 0.0.0.0:8444", a.Listen)
	}
	for key, v := range map[string]string{"jwks": a.JWKS, "issuer": a.Issuer, "audience": a.Audience} {
		if v == "" {
			f.Add("$.api."+key, "must be set")
		}
	}
}
