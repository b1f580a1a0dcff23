package etcd

// MoveOption changes a [Client.MoveKey] or a [Client.CopyKey]: [WithResult],
// [WithPlaintextTarget].
type MoveOption interface{ applyMove(*moveOptions) }

type moveOptions struct {
	writeOptions
	plaintextTarget bool
}

func moveOptionsOf(opts []MoveOption) (moveOptions, error) {
	var o moveOptions
	if err := optionsOf(opts, &o, MoveOption.applyMove); err != nil {
		return o, err
	}
	return o, o.check()
}

// WithPlaintextTarget lets an encrypted value be moved or copied to a key whose value is
// stored unencrypted.
func WithPlaintextTarget() MoveOption { return plaintextTargetOption{} }

type plaintextTargetOption struct{}

func (plaintextTargetOption) applyMove(o *moveOptions) { o.plaintextTarget = true }
