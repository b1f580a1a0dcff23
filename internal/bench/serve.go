package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// memberVariable holds a memberConfig as JSON, and makes this program that member of a
// cluster.
const memberVariable = "ETCD_BENCH_MEMBER"

// readyTimeout bounds the start of a cluster, which takes a second or two.
const readyTimeout = time.Minute

// quota leaves room for what is put between two compactions.
const quota = 8 << 30

// memberConfig is what a member is told.
type memberConfig struct {
	Name    string
	Dir     string
	Client  string // where it serves clients
	Peer    string
	Cluster string // as in --initial-cluster
	Fsync   bool
}

// serveIfAsked runs a member until standard input ends, if this process is the child of
// a cluster, and reports whether it was.
func serveIfAsked() bool {
	text := os.Getenv(memberVariable)
	if text == "" {
		return false
	}
	// Ctrl-C is for the parent, which ends the input when it has finished.
	signal.Ignore(os.Interrupt)
	var m memberConfig
	err := json.Unmarshal([]byte(text), &m)
	if err == nil {
		err = m.serve(os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: member:", err)
		os.Exit(1)
	}
	return true
}

// serve says "ready" when the member serves, and answers each line of the parent by the
// processor time of this process so far, in nanoseconds. It doesn't stop the server when
// the input ends, as the process ends with it, but removes its data: the parent may be
// gone without having done so.
func (m memberConfig) serve(in io.Reader, out io.Writer) (err error) {
	defer func() {
		err = errors.Join(err, os.RemoveAll(m.Dir))
		_ = os.Remove(filepath.Dir(m.Dir)) // which only the last of the members can
	}()
	cfg, err := m.embed()
	if err != nil {
		return err
	}
	member, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	timeout := time.NewTimer(readyTimeout)
	defer timeout.Stop()
	select {
	case <-member.Server.ReadyNotify():
	case err := <-member.Err():
		return err
	case <-timeout.C:
		return fmt.Errorf("not ready after %v", readyTimeout)
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	for questions := bufio.NewScanner(in); questions.Scan(); {
		spent, _ := processorTime()
		if _, err := fmt.Fprintln(out, spent.Nanoseconds()); err != nil {
			return err
		}
	}
	return nil
}

// embed returns the configuration of a server as in production, but for the quota and
// compactions that don't pause: they run between the turns.
func (m memberConfig) embed() (*embed.Config, error) {
	client, err := url.Parse(m.Client)
	if err != nil {
		return nil, err
	}
	peer, err := url.Parse(m.Peer)
	if err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = m.Name, m.Dir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	cfg.InitialCluster = m.Cluster
	cfg.UnsafeNoFsync = !m.Fsync
	cfg.QuotaBackendBytes = quota
	cfg.CompactionSleepInterval = time.Millisecond
	log := zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(os.Stderr), zap.DPanicLevel) // why it gave up
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(log))
	return cfg, nil
}
