package etcd

import (
	"context"
	"strconv"
	"strings"
)

// Queue lists who holds the lock and who waits for it, as [Lock.Queue] does; [Claim.Shared] tells
// readers from writers.
func (l *RWLock) Queue(ctx context.Context) ([]Claim, error) {
	claims, err := l.seats.client.listClaims(ctx, l.seats.name, l.write.before)
	free, shared := true, true // for a writer, for a reader
	for i := range claims {
		claim := &claims[i]
		claim.Shared = strings.HasPrefix(claim.Key, l.seats.name+"\x00"+readKind)
		claim.Held = free || claim.Shared && shared
		free, shared = false, shared && claim.Shared
	}
	return claims, err
}

// Queue lists who holds the semaphore and who waits for it, as [Lock.Queue] does; [Claim.Weight]
// is how much of it each takes.
func (s *Semaphore) Queue(ctx context.Context) ([]Claim, error) {
	claims, err := s.seats.client.listClaims(ctx, s.seats.name, s.rule.all)
	taken := 0
	for i := range claims {
		claim := &claims[i]
		said := strings.TrimPrefix(claim.Key, s.seats.name+"\x00"+semaphoreKind)
		said, _, _ = strings.Cut(said, "\x00")
		_, weight, _ := strings.Cut(said, "/")
		claim.Weight, _ = strconv.Atoi(weight) // 0 for what is no claim to a semaphore
		taken += claim.Weight
		claim.Held = taken <= s.rule.size
	}
	return claims, err
}
