//go:build !race

package envelope_test

const poolSlack = 0
