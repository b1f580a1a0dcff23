package envelope

import "fmt"

const (
	// freeRatio is how many times its stored length a value may decompress to at no charge: what was received bounds
	// such values together. Text and JSON reach 3 to 20.
	freeRatio = 16

	// allowed is how much the other values of one call may take together.
	allowed = 64 << 20
)

// Allowance bounds what the values of one call decompress to, together: 16 times what was received, plus 64 MiB. With
// only a limit for each value, a list of values of a few hundred bytes each could fill the memory. The zero value is
// a whole allowance. Not safe for concurrent use. A nil *Allowance has no bound.
type Allowance struct{ taken int }

// take charges a value of size bytes that is longer than its stored bytes account for.
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
