//go:build !hot

package cli

// commands is every verb, in the order that `sbx help` prints them.
func commands() []command {
	return []command{
		{"run", "run a command in a sandbox", defineRun},
		{"pull", "fetch an image from a registry or an archive", definePull},
		{"load", "read images from an archive", defineLoad},
		{"images", "list the images in the store", defineImages},
		{"inspect", "show everything known of an image", defineInspect},
		{"tag", "give an image another name", defineTag},
		{"rmi", "remove images", defineRmi},
		{"login", "keep the credentials for a registry", defineLogin},
		{"logout", "forget the credentials for a registry", defineLogout},
		{"policy show", "show what a security preset allows", definePolicyShow},
		{"info", "show what this host offers", defineInfo},
		{"version", "show the version", defineVersion},
		{"completion", "write a completion script for a shell", defineCompletion},
		{"help", "explain a command", defineHelp},
	}
}
