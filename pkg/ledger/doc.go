// Package ledger is the public record: what its entries are, how they are hashed and cosigned, and the verifiable random function
// behind every seed. Package tlog holds them on disk.
//
// An entry's number is its index in the log. Entries of a day come in a fixed order: leaves (the set, cosigned), day (their order and
// root, cosigned), then a block for each drop (cosigned). Cosignatures lie outside what is hashed, so that a further one does not make
// another entry of it. A seed hashes the VRF outputs of the day's validators on what they cosigned before, so that nobody could choose
// what is drawn after seeing how it is drawn.
//
// What grinding remains: a validator that withholds its output is left out for the rest of the day, visibly, which is one new throw of
// the dice. Below the quorum there is no seed, so that n validators with a quorum of q allow at most n − q such throws a day, one of four
// with a quorum of three. A day that has lost more goes on with those that are out, package duty's recovery, and then the drops that it has
// left can each be thrown again among any quorum of all. Honest validators take part in it only once the day is over, and a recovery needs a
// quorum's cosignatures: whoever wants those throws lets the log stand still until then, and the blocks name who was out and came back. As
// long as one validator of the set keeps its key to itself nobody knows a seed beforehand; with a single validator, its holder does, and the
// log says so by naming one.
//
// What it is worth: a leaf's share under any seed is its fair share rounded down or up, so another throw moves at most one unit, 500
// milli-stones, for each account and drop; whoever takes the better of two throws for one account gains at most a quarter of a unit on
// average, of the thousand units that a drop of the first era gives. The order of the leaves is worth nothing by itself: whatever it is,
// every share is fair on average under the seeds that come later. For the mine boxes that the seed opens it is worth one more throw of
// all of them together, the better of two sums of prizes. After a standstill it is the best of as many throws as there are quorums.
//
// Whoever collects the proofs of a drop knows its seed before its block is final. All that the seed decides is fixed by then: the leaves by
// the day's cosigned entries, and the mine boxes by the block before, whose checkpoint covers every box that the seed opens. A box logged
// later waits for another block, or else it could be asked for with its prize known, or be moved to a number that wins by entries put before
// it. The seed of that other block is known to nobody while the box can still be moved: an honest validator gives no proof for a drop
// before the block of the drop before it stands in its own copy of the log, with a quorum. What remains are the other throws above, and
// validators who are all of one mind: they know every seed of a day from its root on.
//
// A lone operator can also choose, which no seed prevents: it decides which credits are numbered before a day's leaves and which wait,
// and it draws the accounts' secrets, which nothing in the log commits to and on which a day's set, its order and so every seed depend.
// Only a validator that it does not hold, whose output it cannot foresee, keeps it from trying such choices until one suits.
//
// The package says what an entry is and refuses bytes that are none. Whether an entry may stand where it stands is package audit's
// question. It decides nothing about who is paid, and keeps no state.
package ledger
