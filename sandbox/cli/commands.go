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
		{"network create", "make a network for several sandboxes", defineNetworkCreate},
		{"network ls", "list the networks", defineNetworkLs},
		{"network inspect", "show a network, and who is on it", defineNetworkInspect},
		{"network rm", "remove networks", defineNetworkRm},
		{"network prune", "remove the networks that no sandbox is on", defineNetworkPrune},
		{"network exists", "tell by the exit status whether there is a network", defineNetworkExists},
		{"info", "show what this host offers", defineInfo},
		{"version", "show the version", defineVersion},
		{"completion", "write a completion script for a shell", defineCompletion},
		{"help", "explain a command", defineHelp},
	}
}
