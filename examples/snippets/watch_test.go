package snippets

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func watch(ctx context.Context, client *etcd.Client) {
	watchChan := client.Watch(ctx, "/config/")

	go func() {
		for watchResp := range watchChan {
			for _, event := range watchResp.Events {
				fmt.Printf("Event: %s %s = %s\n",
					event.Type, string(event.Kv.Key), string(event.Kv.Value))
			}
		}
	}()
}

// It isn't parallel because it has the standard output for itself.
func TestWatchPrintsEachChange(t *testing.T) {
	client := newClient(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	defer func(stdout *os.File) { os.Stdout = stdout }(os.Stdout)
	os.Stdout = w
	lines := bufio.NewReader(r)

	watch(t.Context(), client)
	require.NoError(t, client.Put(t.Context(), "/config/", []byte("on")))
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "Event: PUT /config/ = on\n", line)

	_, err = client.Delete(t.Context(), "/config/")
	require.NoError(t, err)
	line, err = lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "Event: DELETE /config/ = \n", line)
}
