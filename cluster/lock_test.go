package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/covey-run/covey/messages"
)

func TestTwoProcessesOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, "owner", "DIR="+dir)
	c.expect("acked")

	_, err := lockDir(dir)
	wantClass(t, err, messages.Unavailable, dir, fmt.Sprintf("pid %d", c.cmd.Process.Pid), filepath.Base(os.Args[0]), "stop it, or use another data directory")
	if !errors.Is(err, ErrInUse) {
		t.Errorf("not ErrInUse: %v", err)
	}
}

func TestTwoNodesOfOneProcessOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	l := must(lockDir(dir))(t)
	_, err := lockDir(dir)
	wantClass(t, err, messages.Unavailable, fmt.Sprintf("pid %d", os.Getpid()))
	ok(t, l.release())
	ok(t, must(lockDir(dir))(t).release())
}

func TestKill9OfTheHolderAndReopening(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, "owner", "DIR="+dir)
	var acked int
	for range 5 {
		_, _ = fmt.Sscan(c.expect("acked"), &acked)
	}
	c.kill()
	if !exists(sockOf(dir)) {
		t.Fatal("the dead owner should have left its socket file: this test must reach that edge")
	}
	if _, err := dial(dir, "t", connEvents{}); err == nil {
		t.Fatal("dial reached a dead owner")
	} else {
		wantClass(t, err, messages.Unavailable, dir, "no node answers")
	}

	l := must(lockDir(dir))(t)
	n := startEmbedded(t, dir, "")
	s := must(serveSocket(l, n.srv, ""))(t)
	defer func() { s.close(); ok(t, l.release()) }()
	j := must(openJournal(testCtx(t), must(dial(dir, "t", connEvents{}))(t), journalOptions{}))(t)
	defer j.nc.Close()
	records := must(j.Read(testCtx(t), "r1"))(t)
	if len(records) < acked {
		t.Fatalf("%d records were acknowledged before the kill, %d are there", acked, len(records))
	}
	for i, e := range records {
		if e.Step != fmt.Sprint(i) {
			t.Fatalf("record %d is of step %s", i, e.Step)
		}
	}
}

func TestDirectoryIsClosedToOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	l := must(lockDir(dir))(t)
	defer func() { ok(t, l.release()) }()
	for _, p := range []string{dir, filepath.Join(dir, lockName), filepath.Join(dir, ownerName)} {
		if st := must(os.Stat(p))(t); st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", p, st.Mode())
		}
	}

	shared := t.TempDir()
	ok(t, os.Chmod(shared, 0o755))
	ok(t, os.WriteFile(filepath.Join(shared, "letters.txt"), nil, 0o644))
	_, err := lockDir(shared)
	wantClass(t, err, messages.Invalid, shared, "0755")
	if st := must(os.Stat(shared))(t); st.Mode().Perm() != 0o755 {
		t.Errorf("the mode of a directory that is not ours was changed to %v", st.Mode())
	}
}

func TestALongPathGetsAShortSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	l := must(lockDir(dir))(t)
	n := startEmbedded(t, dir, "")
	s := must(serveSocket(l, n.srv, ""))(t)
	nc := must(dial(dir, "t", connEvents{}))(t)
	nc.Close()
	temp := s.temp
	s.close()
	ok(t, l.release())
	if temp == "" || exists(temp) {
		t.Errorf("temporary directory %q: want one while it runs, and none after", temp)
	}
}
