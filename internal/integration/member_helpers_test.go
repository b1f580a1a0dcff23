package integration

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// memberVariable holds a number and makes the test binary run that member of a
// cluster instead of the tests. The member keeps everything in its working
// directory.
const (
	memberVariable     = "ETCD_INTEGRATION_MEMBER"
	memberAddrVariable = "ETCD_INTEGRATION_MEMBER_ADDR" // where it serves clients
)

// Members talk over sockets in their own working directories, so that each way
// from one to another is a different file under the same address: the URL of a
// member has to be the same for all.
const ownSocket = "own:1"

func peerSocket(number int) string { return fmt.Sprintf("peer%d:1", number) }

// A leader that isn't heard for electionTimeout is replaced: half of what etcd
// has by default, and long enough for a machine that is busy.
const (
	heartbeat       = 50 * time.Millisecond
	electionTimeout = 500 * time.Millisecond
)

// serveMemberIfAsked runs a member until standard input ends, if this process is
// the child of a cluster, and reports whether it was.
func serveMemberIfAsked() bool {
	number, err := strconv.Atoi(os.Getenv(memberVariable))
	if err != nil {
		return false
	}
	member, err := embed.StartEtcd(memberConfig(number, os.Getenv(memberAddrVariable)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		<-member.Server.ReadyNotify()
		fmt.Println("ready")
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return true
}

// memberFlags returns the flags by which another etcd server is what memberConfig makes of
// this one.
func memberFlags(number int, addr string) []string {
	cfg := memberConfig(number, addr)
	return []string{
		"--name=" + cfg.Name, "--data-dir=" + cfg.Dir,
		"--listen-client-urls=" + cfg.ListenClientUrls[0].String(), "--advertise-client-urls=" + cfg.AdvertiseClientUrls[0].String(),
		"--listen-peer-urls=" + cfg.ListenPeerUrls[0].String(), "--initial-advertise-peer-urls=" + cfg.AdvertisePeerUrls[0].String(),
		"--initial-cluster=" + cfg.InitialCluster, "--unsafe-no-fsync", "--log-outputs=stdout",
		fmt.Sprintf("--heartbeat-interval=%d", cfg.TickMs), fmt.Sprintf("--election-timeout=%d", cfg.ElectionMs),
	}
}

func memberConfig(number int, addr string) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = strconv.Itoa(number)
	cfg.Dir = "data"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	client := []url.URL{{Scheme: "http", Host: addr}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = client, client
	cfg.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: ownSocket}}
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "unix", Host: peerSocket(number)}}
	var all []string
	for i := range clusterSize {
		all = append(all, fmt.Sprintf("%d=unix://%s", i, peerSocket(i)))
	}
	cfg.InitialCluster = strings.Join(all, ",")
	cfg.TickMs = uint(heartbeat.Milliseconds())
	cfg.ElectionMs = uint(electionTimeout.Milliseconds())
	// Processes die here and machines don't: what was written stays.
	cfg.UnsafeNoFsync = os.Getenv(withFsync) == ""
	return cfg
}
