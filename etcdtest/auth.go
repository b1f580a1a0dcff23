package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// rootUser is the name of the user, and of the role, that etcd lets do everything.
const rootUser = "root"

// authTimeout bounds the set-up of the users, which takes milliseconds.
const authTimeout = 30 * time.Second

// Permission lets a user read or write some keys, as Read and Write say; at least one of
// them must be true. Exactly one of Key, Prefix and AllKeys names the keys. The zero
// value names nothing and is refused.
type Permission struct {
	Key     string // one key
	Prefix  string // every key that begins so
	AllKeys bool   // every key

	Read, Write bool
}

// user is an account that exists when authentication begins.
type user struct {
	name, password string
	permissions    []Permission
}

// WithAuth turns authentication on. The user root has this password and may do
// everything; [WithUser] adds further users. If a directory set by [WithDir] holds a
// database with authentication on, its users stay as they are.
//
// Passwords are hashed at the lowest cost, which takes 1 ms instead of 60.
func WithAuth(rootPassword string) Option {
	return func(s *settings) {
		if rootPassword == "" {
			s.reject("WithAuth", "the password is empty")
		}
		s.rootPassword = rootPassword
	}
}

// WithUser adds a user who has these permissions, through a role of the same name; it
// needs [WithAuth]. A user with an empty password can only log in with a client
// certificate, see [WithClientCertRequired].
func WithUser(name, password string, permissions ...Permission) Option {
	return func(s *settings) {
		switch name {
		case "":
			s.reject("WithUser", "the name is empty")
		case rootUser:
			s.reject("WithUser", "root is set by WithAuth")
		}
		for _, p := range permissions {
			if err := p.check(); err != nil {
				s.reject("WithUser", "%s: %w", name, err)
			}
		}
		s.users = append(s.users, user{name, password, permissions})
	}
}

// WithAuthTokenTTL sets how long the token of a logged-in client lives unused, in whole
// seconds, at least 1 s; the server checks once a second. The default, as in production,
// is 5 min. It needs [WithAuth].
func WithAuthTokenTTL(ttl time.Duration) Option {
	return func(s *settings) {
		if ttl < time.Second || ttl%time.Second != 0 {
			s.reject("WithAuthTokenTTL", "%v is not whole seconds above 0", ttl)
		}
		s.tokenTTL = ttl
	}
}

func (p Permission) check() error {
	named := 0
	for _, is := range []bool{p.Key != "", p.Prefix != "", p.AllKeys} {
		if is {
			named++
		}
	}
	if named != 1 {
		return errors.New("a permission needs exactly one of Key, Prefix and AllKeys")
	}
	if !p.Read && !p.Write {
		return errors.New("a permission needs Read or Write")
	}
	return nil
}

// wire returns the permission in etcd's terms.
func (p Permission) wire() *authpb.Permission {
	w := &authpb.Permission{Key: []byte(p.Key)}
	switch {
	case p.Prefix != "":
		w.Key, w.RangeEnd = []byte(p.Prefix), []byte(clientv3.GetPrefixRangeEnd(p.Prefix))
	case p.AllKeys:
		w.Key, w.RangeEnd = []byte{0}, []byte{0}
	}
	switch {
	case p.Read && p.Write:
		w.PermType = authpb.Permission_READWRITE
	case p.Write:
		w.PermType = authpb.Permission_WRITE
	default:
		w.PermType = authpb.Permission_READ
	}
	return w
}

func (s *settings) checkAuth() {
	if s.rootPassword != "" {
		return
	}
	if len(s.users) > 0 {
		s.reject("WithUser", "needs WithAuth")
	}
	if s.tokenTTL != 0 {
		s.reject("WithAuthTokenTTL", "needs WithAuth")
	}
}

// enableAuth makes the users and turns authentication on. If it is on already, the first
// request is refused because it has no user.
func enableAuth(auth pb.AuthClient, set *settings) error {
	if set.rootPassword == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), authTimeout)
	defer cancel()
	for _, u := range append([]user{{name: rootUser, password: set.rootPassword}}, set.users...) {
		switch err := addUser(ctx, auth, u); {
		case errors.Is(rpctypes.Error(err), rpctypes.ErrUserEmpty):
			return nil
		case err != nil:
			return fmt.Errorf("etcdtest: add user %s: %w", u.name, err)
		}
	}
	if _, err := auth.AuthEnable(ctx, &pb.AuthEnableRequest{}); err != nil {
		return fmt.Errorf("etcdtest: enable authentication: %w", err)
	}
	return nil
}

func addUser(ctx context.Context, auth pb.AuthClient, u user) error {
	if _, err := auth.UserAdd(ctx, &pb.AuthUserAddRequest{
		Name:     u.name,
		Password: u.password,
		Options:  &authpb.UserAddOptions{NoPassword: u.password == ""},
	}); err != nil {
		return err
	}
	if _, err := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: u.name}); err != nil {
		return err
	}
	for _, p := range u.permissions {
		grant := &pb.AuthRoleGrantPermissionRequest{Name: u.name, Perm: p.wire()}
		if _, err := auth.RoleGrantPermission(ctx, grant); err != nil {
			return err
		}
	}
	_, err := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: u.name, Role: u.name})
	return err
}
