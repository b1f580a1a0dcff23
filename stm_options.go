package etcd

// TransactOption changes a [Client.Transact]: [WithMaxAttempts], [WithCondition] and
// [WithResult].
type TransactOption interface{ applyTransact(*transactOptions) }

type transactOptions struct {
	writeOptions
	attempts int
}

// WithMaxAttempts bounds how often the function is run: 1 or more.
func WithMaxAttempts(n int) TransactOption { return maxAttemptsOption(n) }

type maxAttemptsOption int

func (n maxAttemptsOption) applyTransact(o *transactOptions) { o.attempts = int(n) }

// DefaultTransactAttempts is how often [Client.Transact] runs its function unless
// [WithMaxAttempts] says otherwise. The unluckiest of 32 workers that compete for one key
// needs 15 runs, measured on one server; this is several times as many.
const DefaultTransactAttempts = 100
