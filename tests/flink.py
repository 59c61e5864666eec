"""A Flink of which only its REST API is there, and which does with jobs what a test tells it."""

from __future__ import annotations

import json
import struct
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

UNENDED = (
    "StopWithSavepointStoppingException: A savepoint has been created at: {}, but the"
    " corresponding job {} failed during stopping; the savepoint is consistent, but might have"
    " uncommitted transactions."
)


class Flink:
    """Jobs by id; each makes checkpoints and savepoints as soon as it is asked for them.

    One that is cancelled has ended once somebody has seen that it is about to.
    """

    status = 200

    def __init__(self):
        self.jobs = {}
        self.failing = set()
        """Names of jobs that fail between their savepoint and their end."""
        self.refusing = set()
        """Names of jobs that no savepoint can be made of."""
        self.savepoints = "file:///nowhere"
        """The folder of savepoints that are asked for without one."""
        self.made = 0
        """Checkpoints, of all jobs."""
        self.told = None

    def add(self, id_, name, views=(), mark=0, state="RUNNING"):
        """A job of so many tasks as views, each of which has come to that watermark."""
        start = len(self.jobs)
        self.jobs[id_] = {"jid": id_, "name": name, "state": state, "start-time": start}
        self.jobs[id_] |= {"views": views, "mark": mark, "duration": 1000, "restored": 0}

    def lose(self):
        """It starts again and knows of no job."""
        self.jobs.clear()

    def answer(self, method, path, body):
        """What it says to a request; None if there is no such job."""
        _, _, id_, *rest = path.split("?")[0].split("/")
        if id_ == "overview":
            told = [dict(job) for job in self.jobs.values()]
            for job in self.jobs.values():
                if job["state"] == "CANCELLING":
                    job["state"] = "CANCELED"
            return {"jobs": told}
        if (job := self.jobs.get(id_)) is None:
            return None
        match (method, *rest):
            case ("PATCH",):
                job["state"] = "CANCELLING"
            case ("GET", "exceptions"):
                return {"exceptionHistory": {"entries": [{"stacktrace": "Lost: it is gone"}]}}
            case ("GET", "vertices", _, "watermarks"):
                return [{"value": str(job["mark"])}]
            case ("GET", "checkpoints"):
                began = {"restore_timestamp": job["restored"]} if job["restored"] else None
                now = {"latest": {"completed": {"id": self.made}, "restored": began}}
                # What it told last, once more: Flink does so for some seconds.
                told, self.told = self.told or now, now
                return told
            case ("GET", *_, "metrics"):
                return []
            case ("GET",):
                vertices = [
                    {"id": f"{i}", "name": f"redis {view}: 1", "metrics": {"read-records": 9}}
                    for i, view in enumerate(job["views"])
                ]
                return job | {"vertices": vertices}
            case ("POST", "stop"):
                job["told"] = self._stopped(job, body.get("targetDirectory", self.savepoints))
                return {"request-id": "asked"}
            case ("GET", "savepoints", _):
                return {"status": {"id": "COMPLETED"}, "operation": job["told"]}
            case ("POST", "checkpoints"):
                self.made += 1
                return {"request-id": "asked"}
            case ("GET", "checkpoints", _):
                return {"status": {"id": "COMPLETED"}, "operation": {"checkpointId": self.made}}
        return {}

    def _stopped(self, job, folder):
        if job["name"] in self.refusing:
            return {"failure-cause": {"stack-trace": f"{job['name']} has no savepoint"}}
        savepoint = f"{folder}/savepoint-{job['jid'][:6]}-0123456789ab"
        made = Path(savepoint.removeprefix("file://"))
        if not savepoint.startswith("file:///nowhere"):
            made.mkdir(parents=True)
            (made / "_metadata").write_bytes(struct.pack(">iiq", 0x4960672D, 0, self.made))
        job["state"] = "FAILED" if job["name"] in self.failing else "FINISHED"
        if job["state"] == "FINISHED":
            return {"location": savepoint}
        return {"failure-cause": {"stack-trace": UNENDED.format(savepoint, job["jid"])}}


@contextmanager
def listening(flink, port=0):
    """A Flink that listens on that port, a free one for 0, and knows its `url`.

    It has an `answer` to method, path and body of a request, and a `status` that it gives with it.
    """

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "{}")
            told = flink.answer(self.command, self.path, body)
            text = json.dumps(told).encode()
            self.send_response(404 if told is None else flink.status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = do_PUT = answer

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        flink.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield flink
        server.shutdown()
