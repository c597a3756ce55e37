package problem

import "net/http"

// Kinds returns all kinds.
func Kinds() []Kind {
	return []Kind{
		TokenMissing(), TokenInvalid(), ScopeMissing(), NotFound(), MethodNotAllowed(), QueryInvalid(), KeyHeader(), KeyReused(), KeyInUse(), TooLarge(),
		MediaType(), BodyInvalid(), TooMany(), AccountUnknown(), TaskUnknown(), BoxUnknown(), ItemUnknown(), OpeningUnknown(), RedemptionUnknown(),
		PossessionUnproven(), FormerUnproven(), AccountKeyMissing(), RequestInvalid(), RequestSeen(), OffersDiffer(), PriceDiffers(), AmountDiffers(),
		CrystalsInsufficient(), CrystalsFull(), StonesInsufficient(), PoolExhausted(), TaskLimit(), TaskOtherwise(), GrantSeen(), FeatureUnproven(),
		ItemLimit(), NotRedeemable(), ExchangeUnset(), StatementUnset(), StatementEarly(), Internal(), Unavailable(),
	}
}

// TokenMissing is for a request without a bearer token.
func TokenMissing() Kind {
	return Kind{"token-missing", "The request carries no access token", "Send the header Authorization: Bearer with an access token of the program's issuer.", http.StatusUnauthorized}
}

// TokenInvalid is for a token that is not accepted.
func TokenInvalid() Kind {
	return Kind{"token-invalid", "The access token is not accepted", "Get a new access token from the program's issuer, for this audience.", http.StatusUnauthorized}
}

// ScopeMissing is for a token that does not allow the request.
func ScopeMissing() Kind {
	return Kind{"scope-missing", "The access token does not allow this", "Ask the issuer for a token with the scope that the operation names.", http.StatusForbidden}
}

// NotFound is for a path that is none of the API's.
func NotFound() Kind {
	return Kind{"not-found", "There is nothing under this path", "Use a path of the document under /v1/openapi.yaml.", http.StatusNotFound}
}

// MethodNotAllowed is for a method that the path does not have.
func MethodNotAllowed() Kind {
	return Kind{"method-not-allowed", "The path does not have this method", "Use a method that the header Allow of the answer names.", http.StatusMethodNotAllowed}
}

// QueryInvalid is for a parameter of the query, or a part of the path, that cannot be used.
func QueryInvalid() Kind {
	return Kind{"query-invalid", "A parameter cannot be used", "Correct the parameter that the detail names.", http.StatusBadRequest}
}

// KeyHeader is for a request that changes something and has no idempotency key, or a malformed one.
func KeyHeader() Kind {
	return Kind{"idempotency-key-missing", "The request has no idempotency key that can be used", "Send the header Idempotency-Key with 16 to 64 characters that are new for each intent, such as a UUID.", http.StatusBadRequest}
}

// KeyReused is for an idempotency key that came before with another request.
func KeyReused() Kind {
	return Kind{"idempotency-key-reused", "The idempotency key came before with other content", "Send the first request again to see its answer, or use a new Idempotency-Key for what is new.", http.StatusUnprocessableEntity}
}

// KeyInUse is for an idempotency key whose first request is not answered yet.
func KeyInUse() Kind {
	return Kind{"idempotency-key-in-use", "The first request with this idempotency key is still under way", "Wait for its answer, or send the same request again in a moment.", http.StatusConflict}
}

// TooLarge is for a body beyond the bound.
func TooLarge() Kind {
	return Kind{"body-too-large", "The body is too large", "Send at most 16 KiB.", http.StatusRequestEntityTooLarge}
}

// MediaType is for a body that is not said to be JSON.
func MediaType() Kind {
	return Kind{"media-type", "The body is not said to be JSON", "Send JSON, with the header Content-Type: application/json.", http.StatusUnsupportedMediaType}
}

// BodyInvalid is for a body that is not what the operation takes.
func BodyInvalid() Kind {
	return Kind{"body-invalid", "The body is not what the operation takes", "Correct what the detail names; the document under /v1/openapi.yaml has the form.", http.StatusBadRequest}
}

// TooMany is for an account that asks too often.
func TooMany() Kind {
	return Kind{"too-many-requests", "Too many requests", "Wait as many seconds as the header Retry-After says.", http.StatusTooManyRequests}
}

// AccountUnknown is for an account that is not kept here.
func AccountUnknown() Kind {
	return Kind{"account-unknown", "There is no such account", "Check the token's subject or the account in the body; the program's operator opens accounts.", http.StatusNotFound}
}

// TaskUnknown is for a task that is not in force.
func TaskUnknown() Kind {
	return Kind{"task-unknown", "There is no such task in force", "Use a task that /v1/tasks lists, with a new Idempotency-Key.", http.StatusNotFound}
}

// BoxUnknown is for a mine box that is not in force.
func BoxUnknown() Kind {
	return Kind{"box-unknown", "There is no such mine box in force", "Use a box that /v1/boxes lists as in force, with a new Idempotency-Key.", http.StatusNotFound}
}

// ItemUnknown is for an item that is not in force.
func ItemUnknown() Kind {
	return Kind{"item-unknown", "There is no such item in force", "Use an item that /v1/catalogue lists with a price in stones, with a new Idempotency-Key.", http.StatusNotFound}
}

// OpeningUnknown is for a box opening that is not the account's.
func OpeningUnknown() Kind {
	return Kind{"opening-unknown", "The account has no such box opening", "Use the id that the answer to the request gave.", http.StatusNotFound}
}

// RedemptionUnknown is for a redemption that is not the account's.
func RedemptionUnknown() Kind {
	return Kind{"redemption-unknown", "The account has no such redemption", "Use the id that the answer to the request gave.", http.StatusNotFound}
}

// PossessionUnproven is for a key whose possession is not proven.
func PossessionUnproven() Kind {
	return Kind{"possession-unproven", "The request does not prove possession of the key", "Sign program, account, nonce, the new key and the one in force with the new key, and send that with a new Idempotency-Key.", http.StatusUnprocessableEntity}
}

// FormerUnproven is for a key whose replacement it has not signed.
func FormerUnproven() Kind {
	return Kind{"former-unproven", "The key in force has not signed its replacement", "Sign the same contents with the key in force too and send that as former, with a new Idempotency-Key; whoever has lost that key asks the program's operator.", http.StatusUnprocessableEntity}
}

// AccountKeyMissing is for an account without a key.
func AccountKeyMissing() Kind {
	return Kind{"account-key-missing", "The account has no key yet", "Register the app's key with PUT /v1/account/key, then ask again with a new Idempotency-Key.", http.StatusConflict}
}

// RequestInvalid is for an owner's signed request that is not accepted.
func RequestInvalid() Kind {
	return Kind{"request-invalid", "The signed request is not accepted", "Sign it with the account's key in force, for this program, account and path, and send it with a new Idempotency-Key.", http.StatusUnprocessableEntity}
}

// RequestSeen is for an owner's signed request that counted before.
func RequestSeen() Kind {
	return Kind{"request-seen", "The signed request has counted before", "Sign another one with a new nonce, and send it with a new Idempotency-Key.", http.StatusConflict}
}

// OffersDiffer is for a request that names other offers than those in force.
func OffersDiffer() Kind {
	return Kind{"offers-differ", "The request names other offers than those in force", "Read the offers again, sign a request for the serial in force, and send it with a new Idempotency-Key.", http.StatusConflict}
}

// PriceDiffers is for a redemption at another price.
func PriceDiffers() Kind {
	return Kind{"price-differs", "The request names another price", "Read the catalogue again, sign a request for the price in force, and send it with a new Idempotency-Key.", http.StatusConflict}
}

// AmountDiffers is for a grant of other crystals than the task gives.
func AmountDiffers() Kind {
	return Kind{"amount-differs", "The task gives another amount", "Read the tasks again or leave the amount out, and ask with a new Idempotency-Key.", http.StatusConflict}
}

// CrystalsInsufficient is for a box that costs more crystals than the account has.
func CrystalsInsufficient() Kind {
	return Kind{"crystals-insufficient", "The account does not have so many crystals", "Earn the crystals that are missing, then ask again with a new Idempotency-Key.", http.StatusConflict}
}

// CrystalsFull is for a grant beyond what an account may hold.
func CrystalsFull() Kind {
	return Kind{"crystals-full", "The account cannot hold so many crystals", "Spend crystals first, then ask again with a new Idempotency-Key.", http.StatusConflict}
}

// StonesInsufficient is for a redemption beyond the balance.
func StonesInsufficient() Kind {
	return Kind{"stones-insufficient", "The account does not have so many stones", "Wait for stones to settle; /v1/account has the balance. Then ask again with a new Idempotency-Key.", http.StatusConflict}
}

// PoolExhausted is for a box whose worst case the cultivation pool cannot pay.
func PoolExhausted() Kind {
	return Kind{"pool-exhausted", "The cultivation pool cannot pay this box's highest prize", "Open another box, or ask again once boxes that wait have given back what they reserve, with a new Idempotency-Key.", http.StatusConflict}
}

// TaskLimit is for a grant beyond the task's bounds.
func TaskLimit() Kind {
	return Kind{"task-limit", "The task's limit for this account is reached", "Ask again on another program day if the task's total allows it, with a new Idempotency-Key.", http.StatusConflict}
}

// TaskOtherwise is for a task that is granted in the other way.
func TaskOtherwise() Kind {
	return Kind{"task-otherwise", "The task is not granted in this way", "Claim a task that names a kind with /claims; the program's operator grants the others. Ask with a new Idempotency-Key.", http.StatusConflict}
}

// GrantSeen is for a reference that crystals were granted for.
func GrantSeen() Kind {
	return Kind{"grant-seen", "Crystals were granted for this reference before", "Use the hash of what is new, with a new Idempotency-Key.", http.StatusConflict}
}

// FeatureUnproven is for a task no use of which is proven and not granted for.
func FeatureUnproven() Kind {
	return Kind{"feature-unproven", "No use of the feature is proven that crystals were not granted for", "Use the feature, and wait until the car's next claim is credited; then ask again with a new Idempotency-Key.", http.StatusConflict}
}

// ItemLimit is for a redemption beyond the item's limit.
func ItemLimit() Kind {
	return Kind{"item-limit", "The account has redeemed this item as often as it may", "Choose another item, with a new Idempotency-Key.", http.StatusConflict}
}

// NotRedeemable is for an account that may not redeem yet.
func NotRedeemable() Kind {
	return Kind{"not-redeemable", "The account may not redeem stones yet", "Activate the account, and wait for the day that /v1/account names; then ask again with a new Idempotency-Key.", http.StatusConflict}
}

// ExchangeUnset is for an exchange statement that there is not.
func ExchangeUnset() Kind {
	return Kind{"exchange-unset", "There is no exchange statement", "Ask again once the program has announced a valuation and its day.", http.StatusNotFound}
}

// StatementUnset is for a collector that writes no statements.
func StatementUnset() Kind {
	return Kind{"statement-unset", "There is no statement", "Ask the program's operator, who serves statements of accounts where the ledger is.", http.StatusNotFound}
}

// StatementEarly is for a statement before there is a block that it could prove anything by.
func StatementEarly() Kind {
	return Kind{"statement-early", "There is no statement yet", "Ask again after the next drop.", http.StatusConflict}
}

// Internal is for what went wrong in the collector.
func Internal() Kind {
	return Kind{"internal", "The collector cannot answer", "Send the same request again later; its operator finds the reason in the collector's log.", http.StatusInternalServerError}
}

// Unavailable is for what the collector cannot do at the moment.
func Unavailable() Kind {
	return Kind{"unavailable", "The collector cannot answer at the moment", "Send the same request again in a moment.", http.StatusServiceUnavailable}
}
