# Run by the build: a failure here fails it.
set -e
todo add "write tests"
todo add "pass tests"
[ "$(todo list | wc -l)" = 2 ]
todo done 1
[ "$(todo list)" = "1. pass tests" ]
rm "$TODO_FILE"
echo "3 tests passed"
