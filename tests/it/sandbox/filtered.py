# Runs a program under a system call filter, as a container around kiln would.
#   filtered.py deny ERRNO NUMBER,... PROGRAM [ARGUMENT...]
#   filtered.py profile FILE PROGRAM [ARGUMENT...]    with a profile such as testdata/seccomp/podman-default.txt
# Needs CAP_SYS_ADMIN, because no_new_privs would disable the setuid bit of newuidmap.
import ctypes, os, platform, struct, sys

ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def instruction(code, jt, jf, k):
    return struct.pack("HBBI", code, jt, jf, k)


def program(answers, default):
    out = [instruction(0x20, 0, 0, 0)]
    for number, answer in answers:
        out += [instruction(0x15, 0, 1, number), instruction(0x06, 0, 0, answer)]
    return out + [instruction(0x06, 0, 0, default)]


def profile(path):
    column = {"x86_64": 1, "aarch64": 2}[platform.machine()]
    lines = [line.split() for line in open(path) if not line.startswith("#")]
    words = [(line[column], line[3]) for line in lines if line[column] != "-"]
    return [(int(number), ALLOW if answer == "allow" else ERRNO | int(answer)) for number, answer in words]


if sys.argv[1] == "deny":
    refused = [(int(number), ERRNO | int(sys.argv[2])) for number in sys.argv[3].split(",")]
    filter, command = program(refused, ALLOW), sys.argv[4:]
else:
    filter, command = program(profile(sys.argv[2]), ERRNO | 38), sys.argv[3:]

code = b"".join(filter)
buffer = ctypes.create_string_buffer(code)
header = struct.pack("HxxxxxxP", len(filter), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, header, 0, 0) != 0:
    sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
os.execvp(command[0], command)
