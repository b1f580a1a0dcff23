package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/version"
)

// machine is where a report is from.
type machine struct {
	CPU    string // the model, or the architecture where the system doesn't tell
	Cores  int
	System string // with the kernel's version, where the system tells
	Go     string
	Etcd   string        // of clientv3 and of the servers
	Fsync  time.Duration // the median of small writes to the servers' disk
	Load   string        // the mean number of processes that ran in the minute before, where the system tells
}

func thisMachine(dir string) (m machine, err error) {
	m = machine{
		CPU: cpuModel(), Cores: runtime.NumCPU(), System: runtime.GOOS, Go: runtime.Version(), Etcd: version.Version,
	}
	if release := firstField("/proc/sys/kernel/osrelease"); release != "" {
		m.System += " " + release
	}
	m.Load = firstField("/proc/loadavg")
	m.Fsync, err = fsyncTime(dir)
	return m, err
}

// cpuModel reads what Linux tells.
func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo") // isn't there on other systems
	for line := range strings.Lines(string(text)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}

// firstField returns the first word of a file, or "" where there is no such file.
func firstField(path string) string {
	text, _ := os.ReadFile(path)
	word, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	return word
}

// fsyncTime measures how long a small write takes to get to the disk.
func fsyncTime(dir string) (median time.Duration, err error) {
	base, err := os.MkdirTemp(dir, "etcdbench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	f, err := os.Create(filepath.Join(base, "fsync"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var all []time.Duration
	for range 51 {
		began := time.Now()
		if _, err := f.Write(make([]byte, 512)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

func (m machine) String() string {
	text := fmt.Sprintf("%s, %d cores, %s, %s, etcd %s, fsync of 512 B in %v",
		m.CPU, m.Cores, m.System, m.Go, m.Etcd, m.Fsync.Round(time.Microsecond))
	if m.Load != "" {
		text += ", load " + m.Load + " before the run"
	}
	return text
}
