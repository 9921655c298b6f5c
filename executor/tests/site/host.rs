//! What an executor has made on the host: all of it has to be gone in the end.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::{Site, docker};

impl Site {
    /// The one container of this site's executor.
    pub fn container(&self) -> String {
        let containers = self.containers();
        assert_eq!(containers.len(), 1, "{containers:?}");
        containers[0].clone()
    }

    pub fn containers(&self) -> Vec<String> {
        let Some(id) = *self.executor_id.lock().expect("lock") else { return Vec::new() };
        docker(&["ps", "-aq", "--filter", &format!("label=bulkhead.executor={id}")])
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Files of workspaces.
    pub fn images(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.join("data/workspaces"));
        let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "img")).collect()
    }

    pub fn volumes(&self) -> Vec<String> {
        let filter = format!("label=bulkhead.executor={}", self.executor_id());
        let list = docker(&["volume", "ls", "-q", "--filter", &filter]);
        list.lines().map(str::to_owned).collect()
    }

    /// Loop devices with a file of this site behind them.
    pub fn loops(&self) -> Vec<PathBuf> {
        let ours = self.folder.display().to_string();
        let blocks = std::fs::read_dir("/sys/block").expect("sysfs").flatten();
        let devices = blocks.filter(|block| {
            std::fs::read_to_string(block.path().join("loop/backing_file"))
                .is_ok_and(|file| file.starts_with(&ours))
        });
        devices.map(|block| PathBuf::from("/dev").join(block.file_name())).collect()
    }

    /// Sockets' folders and names of devices.
    pub fn run_entries(&self) -> Vec<String> {
        let executors = std::fs::read_dir(self.folder.join("run")).into_iter().flatten().flatten();
        let entries = executors.flat_map(|entry| std::fs::read_dir(entry.path()).expect("folder"));
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Cuts every connection between this site's executor and a PID 1, of which there has to be one
    /// soon, as if the kernel had. Both live on.
    pub fn cut_connections(&self) {
        let mut sockets = Vec::new();
        super::wait_until("a connection", || {
            sockets = self.connections();
            !sockets.is_empty()
        });
        for socket in sockets {
            // The other side may have been faster.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn connections(&self) -> Vec<UnixStream> {
        let this = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process");
        let numbers = std::fs::read_dir("/proc/self/fd").expect("procfs").flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let sockets = numbers.filter_map(|number| {
            let socket = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok()?;
            let socket = UnixStream::from(socket);
            // One that listens has no peer.
            socket.peer_addr().ok()?;
            let address = socket.local_addr().ok()?;
            address.as_pathname()?.starts_with(&self.folder).then_some(socket)
        });
        sockets.collect()
    }

    pub fn spool_files(&self) -> usize {
        std::fs::read_dir(self.folder.join("data/spool")).expect("folder").count()
    }
}
