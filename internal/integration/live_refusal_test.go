package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRefusalIsToldAlthoughAGoodOneFollows(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	commit(t, c, map[string]string{p + "server/port": "1"})
	v := liveOf[service](t, c, p)
	rejections := v.Rejections(within(t, patience))
	refused := commit(t, c, map[string]string{p + "server/port": "none"})
	refusedAt(t, v, refused)
	commit(t, c, map[string]string{p + "server/port": "2"})
	require.Eventually(t, func() bool { return v.Err() == nil }, patience, time.Millisecond)
	var told []int64
	for r := range rejections {
		told = append(told, r.Revision)
		break
	}
	require.Equal(t, []int64{refused}, told)
}
