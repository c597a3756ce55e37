// Package ledger is the public record: what its entries are, how they are hashed and cosigned, and the verifiable random function
// behind every seed. Package tlog holds them on disk.
//
// An entry's number is its index in the log. Entries of a day come in a fixed order: leaves (the set, cosigned), day (their order and
// root, cosigned), then a block for each drop (cosigned). Cosignatures lie outside what is hashed, so that a further one does not make
// another entry of it. A seed hashes the VRF outputs of the day's validators on what they cosigned before, so that nobody could choose
// what is drawn after seeing how it is drawn.
//
// What grinding remains: a validator that withholds its output is left out for the rest of the day, visibly, which is one new throw of
// the dice a day. As long as one validator of the set keeps its key to itself nobody knows a seed beforehand; with a single validator, its
// holder does, and the log says so by naming one.
//
// A lone operator can also choose, which no seed prevents: it decides which credits are numbered before a day's leaves and which wait,
// and it draws the accounts' secrets, which nothing in the log commits to and on which a day's set, its order and so every seed depend.
// Only a validator that it does not hold, whose output it cannot foresee, keeps it from trying such choices until one suits.
//
// The package says what an entry is and refuses bytes that are none. Whether an entry may stand where it stands is package audit's
// question. It decides nothing about who is paid, and keeps no state.
package ledger
