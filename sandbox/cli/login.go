//go:build !hot

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"sbx/sandbox/image"
)

func defineLogin(a *app, fs *pflag.FlagSet) action {
	var f accessFlags
	f.addTo(fs)
	username := fs.StringP("username", "u", "", "")
	password := fs.StringP("password", "p", "", "")
	fromStdin := fs.Bool("password-stdin", false, "")
	show := fs.Bool("get-login", false, "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 0, 1, "REGISTRY"); err != nil {
			return 0, err
		}
		opts := image.LoginOptions{
			Registry: "docker.io", Username: *username, Password: *password, Access: f.access(""),
		}
		if len(args) == 1 {
			opts.Registry = args[0]
		}
		if *show {
			user, err := image.LoggedIn(context.Background(), opts.Registry, opts.Access)
			if err != nil {
				return 0, err
			}
			return 0, a.print(user + "\n")
		}
		if *fromStdin && *password != "" {
			return 0, &usageError{msg: "--password and --password-stdin exclude each other"}
		}
		if err := a.askLogin(&opts, *fromStdin); err != nil {
			return 0, err
		}
		ctx, stop := interruptible()
		defer stop()
		return 0, image.Login(ctx, opts)
	}
}

// askLogin fills in what the flags left open: from stdin, or by asking at the terminal.
func (a *app) askLogin(opts *image.LoginOptions, fromStdin bool) error {
	if fromStdin {
		if opts.Username == "" {
			return &usageError{msg: "--password-stdin needs --username"}
		}
		data, err := readAll(a.stdin, "password", 64<<10)
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		opts.Password = strings.TrimRight(string(data), "\r\n")
		return nil
	}
	if opts.Username != "" && opts.Password != "" {
		return nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &usageError{
			msg:  "no user name or no password, and no terminal to ask at",
			hint: "echo PASSWORD | sbx login --username NAME --password-stdin REGISTRY",
		}
	}
	defer tty.Close()
	if opts.Username == "" {
		fmt.Fprint(tty, "Username: ")
		line, err := bufio.NewReader(tty).ReadString('\n')
		if err != nil && !(errors.Is(err, io.EOF) && line != "") {
			return fmt.Errorf("read the user name: %w", err)
		}
		opts.Username = strings.TrimSpace(line)
	}
	if opts.Password == "" {
		fmt.Fprint(tty, "Password: ")
		secret, err := term.ReadPassword(int(tty.Fd()))
		fmt.Fprintln(tty)
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		opts.Password = string(secret)
	}
	return nil
}

// isTerminal reports whether a person would have to type what is read from r.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func defineLogout(a *app, fs *pflag.FlagSet) action {
	authFile := fs.String("authfile", "", "")
	everywhere := fs.BoolP("all", "a", false, "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 0, 1, "REGISTRY"); err != nil {
			return 0, err
		}
		registry := "docker.io"
		switch {
		case *everywhere && len(args) > 0:
			return 0, &usageError{msg: "--all and a registry exclude each other"}
		case *everywhere:
			registry = ""
		case len(args) == 1:
			registry = args[0]
		}
		return 0, image.Logout(context.Background(), registry, image.Access{AuthFile: *authFile})
	}
}
