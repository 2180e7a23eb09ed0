# One line per thing to do, numbered when shown.
todo_list() {
    [ -s "$TODO_FILE" ] || { echo "nothing to do ($TODO_ENV)"; return 0; }
    awk '{ print NR ". " $0 }' "$TODO_FILE"
}

todo_add() {
    echo "$1" >> "$TODO_FILE"
}

todo_done() {
    sed -i "$1d" "$TODO_FILE"
}
