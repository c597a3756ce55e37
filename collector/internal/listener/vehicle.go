package listener

import (
	"net/http"

	"rawstone/pkg/wire"
)

// Vehicle returns the vehicle and the device key that a client certificate names which TLS has verified. Whether they belong together today
// is for the records to say.
func Vehicle(r *http.Request) (vehicle string, key wire.PublicKey, ok bool) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		return "", key, false
	}
	leaf := r.TLS.PeerCertificates[0]
	key, err := wire.NewPublicKey(leaf.PublicKey)
	return leaf.Subject.CommonName, key, err == nil && wire.CheckVehicle(leaf.Subject.CommonName) == nil
}
