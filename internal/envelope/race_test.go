//go:build race

package envelope_test

// poolSlack: the race detector makes every sync.Pool drop a quarter of what it is given, those of
// the compressor and the random generator too.
const poolSlack = 3
