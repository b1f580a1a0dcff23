package envelope

import "fmt"

const (
	// freeRatio is up to how many times its stored length a value decompresses for nothing: what was received bounds
	// such values together. Text and JSON reach 3 to 20.
	freeRatio = 16

	// allowed is what the other values of one call may take together.
	allowed = 64 << 20
)

// Allowance bounds what the values of one call decompress to, together: 16 times what was received and 64 MiB. The
// limit of each alone would let a list of a few hundred bytes each fill the memory. The zero value is a whole
// allowance. Not safe for concurrent use. A nil *Allowance has no bound.
type Allowance struct{ taken int }

// take takes what a value of stored bytes is longer than they account for.
func (a *Allowance) take(stored, size int) error {
	if a == nil || size <= freeRatio*stored {
		return nil
	}
	if a.taken+size > allowed {
		return fmt.Errorf("%w: the values of one call decompress to more than %d bytes beyond %d times their length",
			ErrValueTooLarge, allowed, freeRatio)
	}
	a.taken += size
	return nil
}
