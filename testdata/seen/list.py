# Lists the whole file system as JSON lines, mounts left out: they are not the image's.
import hashlib, json, os, stat
here = os.lstat("/").st_dev
mounts = {line.split()[4] for line in open("/proc/self/mountinfo")} - {"/"}
def show(path):
    s = os.lstat(path)
    kind = stat.S_IFMT(s.st_mode)
    d = {"path": path[1:] or ".", "mode": stat.S_IMODE(s.st_mode), "uid": s.st_uid, "gid": s.st_gid, "mtime": s.st_mtime_ns // 10**9,
         "xattrs": {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in os.listxattr(path, follow_symlinks=False)}}
    d["kind"] = {stat.S_IFDIR: "dir", stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo", stat.S_IFCHR: "char"}[kind]
    if kind == stat.S_IFLNK: d["link"] = os.readlink(path)
    if kind == stat.S_IFCHR: d["link"] = "%d:%d" % (os.major(s.st_rdev), os.minor(s.st_rdev))
    if kind == stat.S_IFREG:
        d["size"] = s.st_size
        d["content"] = hashlib.sha256(open(path, "rb").read()).hexdigest()
    print(json.dumps(d), file=out)
    if kind == stat.S_IFDIR:
        for name in sorted(os.listdir(path)):
            below = os.path.join(path, name)
            if below not in mounts and below != "/listing": show(below)
out = open("/listing", "w")
show("/")
