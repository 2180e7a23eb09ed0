//! Commands that other tools have and kiln has not: what to do instead.

/// What does the work of another tool's command `name`, if it is known.
pub(in crate::cli) fn instead(name: &str) -> Option<&'static str> {
    Some(match name {
        "push" | "copy" | "manifest" => {
            "skopeo pushes what kiln saves: kiln save -o app.tar IMAGE, then skopeo copy oci-archive:app.tar docker://IMAGE"
        }
        "login" | "logout" => {
            "kiln reads the credentials that docker login, podman login and skopeo login store; the README says where"
        }
        "commit" => "kiln run --commit NAME IMAGE COMMAND makes an image of what a command changed",
        "buildx" | "bud" | "builder" | "bake" => "kiln build takes the options of docker build",
        "container" => "kiln keeps no containers: kiln run runs a command and forgets what it changed",
        "image" => "the commands for images are kiln images, inspect, history, tag, rmi, save and load",
        "rm" => "kiln keeps no containers; kiln rmi removes images, kiln prune what none of them needs",
        "ps" | "exec" | "start" | "stop" | "kill" | "logs" | "attach" | "create" | "restart" | "wait" | "cp"
        | "top" => "kiln keeps no containers: kiln run runs a command and forgets what it changed",
        "compose" | "up" | "volume" | "network" => "kiln builds images and runs single commands; podman runs services",
        "export" => "kiln build -o type=tar,dest=FILE writes an image's files",
        "system" => "kiln info and kiln prune",
        "search" => "kiln pulls images by name only",
        _ => return None,
    })
}
