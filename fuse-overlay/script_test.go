//go:build !hot

package fuseoverlay

const script = `
# reading
stat d/f1
read d/f1
list .
list both
list opaque
list only
list empty
stat both/b2
stat both/gone
stat opaque/x
read both/b1
readlink d/link
readlink dangling
readlink d/f1
open dangling
open nothing
open d/f1/below
nofollow d/link
opendir d/f1
opendir d/e
getxattr d/f2 user.colour
getxattr d/f2 user.overlay.origin
getxattr d/f1 user.colour
getxattr opaque user.overlay.opaque
stat pipe
stat acl
getxattr d/f1 system.posix_acl_access
# writing to what is below
append d/f1 more
read d/f1
write d/f2 HEAD
read d/f2
getxattr d/f2 user.colour
trunc both/b1 short
read both/b1
truncate big 10
read big
stat big
truncate d/e/g1 100
read d/e/g1
truncate d 0
truncate nothing 0
create d/f3 644
create d/n1 4755
stat d/n1
create both/b2 600
read both/b2
create nothing/x 644
create d/f1/x 644
write dangling through
stat nowhere
append d/link linked
read d/f1
append d/e x
write d x
# modes, owners, times
chmod d/f3 600
stat d/f3
chmod d/e 711
stat d/e
chmod nothing 600
chown d/f3 5 6
stat d/f3
chown mode/suid 7 7
stat mode/suid
chmod mode/suid 6755
stat mode/suid
chown mode/suid 8 8
stat mode/suid
chown dangling 9 9
stat dangling
chown d/e/f 3 3
stat d/e/f
utimes d/f3 1000
utimes both/sub 1001
utimes d/link 1002
chown d/f3 70000 0
# extended attributes
setxattr d/f3 user.a 1
createxattr d/f3 user.a 2
getxattr d/f3 user.a
removexattr d/f3 user.a
removexattr d/f3 user.a
getxattr d/f3 user.a
removexattr d/e user.shape
setxattr only user.b 2
getxattr only user.b
setxattr pipe user.b 2
setxattr d/link user.b 2
setxattr d/f3 trusted.x 1
setxattr d/f3 nonsense 1
setxattr both/b3 user.overlay.mine 1
getxattr both/b3 user.overlay.mine
# deleting
unlink d/f1
stat d/f1
list d
unlink d/f1
unlink d/e
unlink nothing
unlink both/new
list both
create d/f1 640
read d/f1
unlink d/f1
mkdir d/f1 700
list d/f1
rmdir d/f1
rmdir both
rmdir both/sub
stat both/sub
mkdir both/sub 755
list both/sub
rmdir d/f2
rmdir empty
stat empty
mkdir empty 755
list empty
create empty/x 644
rmdir empty
unlink empty/x
rmdir empty
rmdir nothing
rmdir only
unlink only
mkdir both/gone 755
list both/gone
create both/gone/inside 644
read both/gone/inside
unlink both/gone/inside
rmdir both/gone
stat both/gone
# a directory that was emptied of what is below
unlink d/e/g1
unlink d/e/g2
unlink d/e/g3
unlink d/e/g4
list d/e
rmdir d/e
rmdir d/e/f
rmdir d/e
stat d/e
mkdir d/e 755
list d/e
stat d/e/f
# renaming
rename both/b3 both/b3new
read both/b3new
stat both/b3
rename both/b3new both/b3
read both/b3
rename both/b4 d/moved
stat both/b4
read d/moved
rename d/moved both/b1
read both/b1
rename nothing both/b1
rename both/b1 nothing/x
rename both/b1 d
rename d both/b1
rename both both2
rename only only2
rename d/e d/e2
list d/e2
rename d/e2 d/e
mkdir n1 755
mkdir n1/n2 755
create n1/n2/deep 644
rename n1 n3
read n3/n2/deep
rename n3 n3/n2/inside
rename n3 n3
mkdir n4 755
rename n3 n4
list n4
create n5 644
rename n5 n4
rename n4 n5
noreplace n5 both/b1
noreplace n5 n6
read n6
mkdir full 755
create full/x 644
rename n4 full
list full
unlink full/x
rename n4 full
list full
rename full opaque
unlink opaque/seen
rename full opaque
list opaque
read opaque/n2/deep
exchange both/b1 n6
read both/b1
read n6
exchange n6 nothing
exchange n6 opaque
list n6
read opaque
exchange n6 both
exchange opaque n6
list opaque
mkdir was 755
rmdir was
symlink target was
rename was both/b2
readlink both/b2
rename d/f2 both/gone
read both/gone
mkdir m1 755
rename m1 d/f2
list d/f2
rename d/f2 m1
stat d/f2
# links
link big hard
stat big
append hard x
read big
unlink big
read hard
link hard big
link hard d/f3
link nothing hard2
link d hard2
link pipe pipe2
stat pipe2
link dangling dangling2
readlink dangling2
link hard nothing/x
link d/f4 f4-three
append f4-three y
read d/f4
read d/f4-too
rename hard big
stat hard
create l1 644
link l1 l2
rename l1 l2
stat l1
# special files
mkfifo fifo 640
stat fifo
mksock sock 600
stat sock
mknull null
mkwhiteout white
stat white
symlink a s1
symlink b s1
readlink s1
unlink s1
symlink / s1
unlink pipe
mkfifo pipe 600
chmod fifo 600
rename fifo d/fifo
# open files without names
orphan d/f3
stat d/f3
orphan mode/secret
stat mode/secret
orphan d/moved
create o1 644
orphan o1
orphan d
tmpfile d d/tmp
read d/tmp
stat d/tmp
tmpfile d d/tmp
tmpfile only only/tmp
tmpfile d/tmp d/tmp2
# space
create space 644
fallocate space 0 0 10000
stat space
fallocate space 3 0 4096
read space
fallocate d 0 0 1
fallocate mode/suid 1 100 100
stat mode/suid
# names
mkdir LONG255 755
stat LONG255
rmdir LONG255
create LONG256 644
stat LONG256
symlink x LONG255
rename LONG255 d/short
unlink d/short
# somebody else
chmod . 755
mkdir world 1777
chmod world 1777
as 1000 create world/mine 644
stat world/mine
as 1000 mkdir world/dir 755
stat world/dir
as 1000 symlink x world/link
stat world/link
as 1000 mkfifo world/fifo 600
stat world/fifo
as 1000 create d/no 644
as 1000 write hard x
as 1000 unlink hard
as 1001 unlink world/mine
as 1001 append world/mine x
as 1000 append world/mine x
as 1000 chmod world/mine 4777
stat world/mine
as 1001 append world/mine x
stat world/mine
as 1000 chmod world/mine 6777
as 1001 truncate world/mine 1
stat world/mine
as 1000 chmod world/mine 2775
stat world/mine
as 1000 chown world/mine 1001 1000
as 1000 read mode/suid
mkdir group 2777
chmod group 2777
chown group 0 1002
as 1000 create group/f 664
stat group/f
as 1000 mkdir group/d 755
stat group/d
chmod group/f 644
mkdir shut 700
create shut/in 644
as 1000 stat shut/in
as 1000 list shut
as 1000 link hard world/hard
as 1000 tmpfile world world/tmp
stat world/tmp
as 1000 setxattr hard user.x y
as 1000 setxattr world/mine user.x y
as 1000 utimes hard 1000
as 1000 rename hard world/hard
as 1000 rename world/mine world/mine2
# access control lists
create acl/f 666
getxattr acl/f system.posix_acl_access
mkdir acl/d 777
getxattr acl/d system.posix_acl_default
as 1006 write acl/f allowed
as 1007 append acl/f denied
chmod acl/f 600
as 1006 append acl/f denied
unlink acl/f
create acl/f 666
getxattr acl/f system.posix_acl_access
mkdir acl/g 755
rmdir acl/g
mkdir acl/g 755
getxattr acl/g system.posix_acl_default
`
