package mirror

// waiter is a call that waits for a revision.
type waiter struct {
	revision int64
	told     chan error // takes one
}

// tell ends the wait, unless something has ended it before.
func (w *waiter) tell(err error) {
	select {
	case w.told <- err:
	default:
	}
}
