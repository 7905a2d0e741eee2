//! gzip by several threads into one member.
//!
//! The input is cut into blocks of [`BLOCK`] bytes. Each is deflated on its own with the last 32 KiB
//! of the block before as its dictionary and ends at a byte boundary (an empty stored block), so
//! the pieces, put behind each other, are one deflate stream that any reader takes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use flate2::{Compress, Crc, FlushCompress, Status};

use super::bad_level;

/// Input per block. It is part of what the bytes depend on: changing it changes every blob.
const BLOCK: usize = 512 << 10;
/// How far deflate looks back.
const WINDOW: usize = 32 << 10;
/// Magic, deflate, no flags, no time, no extra flags, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
const MAX_LEVEL: u32 = 9;
/// Blocks in flight beyond one for each thread; enough that no thread waits for the writer.
const SPARE: usize = 2;

pub(super) struct Gzip<W: Write> {
    out: W,
    block: Vec<u8>,
    dictionary: Vec<u8>,
    crc: Crc,
    level: u32,
    threads: usize,
    pool: Option<Pool>,
    pending: VecDeque<Receiver<io::Result<Piece>>>,
    begun: bool,
}

struct Job {
    data: Vec<u8>,
    dictionary: Vec<u8>,
    is_last: bool,
}

struct Piece {
    bytes: Vec<u8>,
    crc: Crc,
}

impl<W: Write> Gzip<W> {
    pub(super) fn new(level: u32, threads: usize, out: W) -> io::Result<Self> {
        if level > MAX_LEVEL {
            return Err(bad_level("gzip", level, 0, MAX_LEVEL));
        }
        Ok(Self {
            out,
            block: Vec::new(),
            dictionary: Vec::new(),
            crc: Crc::new(),
            level,
            threads,
            pool: None,
            pending: VecDeque::new(),
            begun: false,
        })
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.submit(true)?;
        while !self.pending.is_empty() {
            self.take_oldest()?;
        }
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        // The length is kept modulo 2^32, as the format has it.
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }

    /// Hands the gathered block to a thread, or deflates it here when there is but one.
    fn submit(&mut self, is_last: bool) -> io::Result<()> {
        let data = std::mem::take(&mut self.block);
        let tail = data.len().saturating_sub(WINDOW);
        let dictionary = std::mem::replace(&mut self.dictionary, data[tail..].to_vec());
        let job = Job {
            data,
            dictionary,
            is_last,
        };
        if self.threads <= 1 || (is_last && self.pool.is_none()) {
            let piece = deflate(self.level, &job)?;
            return self.put(&piece);
        }
        if self.pool.is_none() {
            self.pool = Some(Pool::new(self.threads, self.level)?);
        }
        let (sender, receiver) = sync_channel(1);
        if let Some(pool) = &self.pool {
            pool.send(job, sender)?;
        }
        self.pending.push_back(receiver);
        if self.pending.len() > self.threads + SPARE {
            self.take_oldest()?;
        }
        Ok(())
    }

    fn take_oldest(&mut self) -> io::Result<()> {
        let Some(receiver) = self.pending.pop_front() else {
            return Ok(());
        };
        let piece = receiver.recv().map_err(|_| lost_thread())??;
        self.put(&piece)
    }

    fn put(&mut self, piece: &Piece) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            self.out.write_all(&HEADER)?;
        }
        self.crc.combine(&piece.crc);
        self.out.write_all(&piece.bytes)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.submit(false)?;
        }
        if self.block.capacity() == 0 {
            self.block.reserve_exact(BLOCK);
        }
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lost_thread() -> io::Error {
    io::Error::other("a compression thread ended without a result")
}

/// Deflates one block.
///
/// The state is made anew for each: one that was reset does not quite forget what it saw, and the
/// bytes would depend on which blocks the same thread had before.
fn deflate(level: u32, job: &Job) -> io::Result<Piece> {
    let mut state = Compress::new(flate2::Compression::new(level), false);
    if !job.dictionary.is_empty() {
        state
            .set_dictionary(&job.dictionary)
            .map_err(io::Error::other)?;
    }
    let flush = match job.is_last {
        true => FlushCompress::Finish,
        false => FlushCompress::Sync,
    };
    let mut crc = Crc::new();
    crc.update(&job.data);
    let mut bytes = Vec::with_capacity(job.data.len() / 2 + WINDOW);
    loop {
        let done = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let rest = job.data.get(done..).unwrap_or_default();
        let status = state.compress_vec(rest, &mut bytes, flush);
        let status = status.map_err(io::Error::other)?;
        let has_room = bytes.len() < bytes.capacity();
        let is_read = state.total_in() == job.data.len() as u64;
        if status == Status::StreamEnd || (!job.is_last && is_read && has_room) {
            return Ok(Piece { bytes, crc });
        }
        bytes.reserve(bytes.capacity() / 2 + WINDOW);
    }
}

type Order = (Job, SyncSender<io::Result<Piece>>);

/// Threads that end when the pool is dropped.
struct Pool {
    orders: SyncSender<Order>,
}

impl Pool {
    fn new(threads: usize, level: u32) -> io::Result<Self> {
        let (orders, inbox) = sync_channel::<Order>(threads + SPARE + 1);
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..threads {
            let inbox = Arc::clone(&inbox);
            thread::Builder::new()
                .name("gzip".to_owned())
                .spawn(move || work(&inbox, level))?;
        }
        Ok(Self { orders })
    }

    fn send(&self, job: Job, reply: SyncSender<io::Result<Piece>>) -> io::Result<()> {
        self.orders.send((job, reply)).map_err(|_| lost_thread())
    }
}

fn work(inbox: &Mutex<Receiver<Order>>, level: u32) {
    loop {
        let order = match inbox.lock() {
            Ok(inbox) => inbox.recv(),
            Err(_) => return,
        };
        let Ok((job, reply)) = order else {
            return;
        };
        // The other side is gone when the compressor was dropped unfinished.
        if reply.send(deflate(level, &job)).is_err() {
            return;
        }
    }
}
