// Package image brings images from where they are, keeps them, and finds them again.
//
//	Pull, Load    from a registry, an archive or a directory       pull.go, local.go, load.go
//	Store         what is here: Find, List, Inspect, Remove, ...   store.go
//	ServeStore    the one who writes to it                         serve.go
//	Login         credentials                                      login.go, auth.go
//
// # How a pull goes
//
//	what the name may mean     names.go, shortname.go, registries.go
//	the manifest               fetch.go: through indexes, to the one for the platform
//	is it here?                keep.go: the manifest's digest tells; then it only gets the name
//	what is lacking            put.go, store_ask.go: sbx-store says which layers it wants
//	blobs                      download.go, blobs.go: three at a time, taken up where they broke off;
//	                           for an archive or a directory layout.go, archive.go
//	layers                     unpack.go, layer*.go: four at a time, without a lock
//	the image                  put_layers.go: under the lock, all of it or nothing
//	the index                  index_make.go: with the next Find
//
// Of several pulls of one image one works, and the others wait for it; of several images
// with a blob in common, one downloads it.
//
// # Who runs where
//
//	sbx          the caller: speaks to registries and keeps blobs; only reads what is in storage
//	sbx-store    root of a user namespace with all the caller's ids, for as long as one change
//	             takes: unpacks, since files there can have their true owners, and calls the
//	             storage library, which locks and records as podman does
//
// What they say to each other is drawn in store_ask.go. A run of an image that is here does
// none of this: the hot half of sbx has the index of this package, and little else (hot.go).
//
// # What is checked, and when
//
//	manifest, configuration    against the digest that led there, before they are parsed
//	blob                       its size and digest, before it has its name
//	layer                      each header before it is unpacked, its size and ratio on the way,
//	                           the digest of the whole before it joins the store
//	image                      that nothing of it is missing, under the lock
//	index                      the stamps of what it was made from, and its checksums, by each Find
//	layers' directories        when the index is made, and when they are mounted
//	what a kill left behind    by the next who changes the store; blobs after a week, or by rmi
//
// An image's configuration is hostile still: who runs it reads it as such.
//
// # What it does not do
//
// It builds and pushes nothing, verifies no signatures, and writes to no store of podman's.
// Layers are kept unpacked, and are never read through again: what a disk changes in a file
// is not noticed.
package image
