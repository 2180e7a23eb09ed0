# Changes what the base and the step before brought.
import os, shutil
os.remove("/etc/issue")
shutil.rmtree("/usr/share/doc")
shutil.rmtree("/made/deep"); os.mkdir("/made/deep"); open("/made/deep/new", "w").write("opaque")
os.remove("/made/empty"); os.mkdir("/made/empty"); open("/made/empty/now", "w").write("a directory")
shutil.rmtree("/var/log"); open("/var/log", "w").write("a file")
os.remove("/made/two")
os.chmod("/made/one", 0o640)
os.rename("/made/big", "/made/moved")
os.chown("/etc/debian_version", 77, 88)
open("/etc/passwd", "a").write("late:x:4321:4321::/:/bin/sh\n")
