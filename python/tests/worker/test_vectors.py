import json
import os
import unittest

import harness
import make_vectors
from myelin.worker import protocol, rope

with open(make_vectors.PATH) as file:
    VECTORS = json.load(file)


class Vectors(unittest.TestCase):
    def test_the_file_is_what_its_generator_writes(self):
        self.assertEqual(
            json.dumps(VECTORS), json.dumps({"frames": make_vectors.frames(), "ropes": make_vectors.ropes()})
        )

    def test_frames(self):
        for vector in VECTORS["frames"]:
            with self.subTest(vector["name"]):
                data = bytes.fromhex(vector["hex"])
                worker = vector["from"] == "worker"
                kinds = protocol.FROM_WORKER if worker else protocol.FROM_SERVER
                limit = protocol.MAX_FROM_WORKER if worker else protocol.MAX_FROM_SERVER
                if "error" in vector:
                    with self.assertRaises(protocol.ProtocolError):
                        protocol.parse(data, kinds, limit)
                    continue
                length, kind, flags, call, body = protocol.parse(data, kinds, limit)
                said = {"length": length, "kind": kind, "flags": flags, "call": call, "body_hex": body.hex()}
                self.assertEqual(said, vector["frame"])

    def test_ropes(self):
        for vector in VECTORS["ropes"]:
            with self.subTest(vector["name"]):
                data = bytes.fromhex(vector["hex"])
                memfd = bytes.fromhex(vector["memfd_hex"]) if "memfd_hex" in vector else None
                if "error" in vector:
                    with self.assertRaises(rope.RopeError):
                        rope.unpack(data, memfd)
                    continue
                pieces = rope.unpack(data, memfd)
                self.assertEqual(rope.to_json(pieces), vector["json"])
                self.assertEqual(rope.to_json(pieces, "bare"), vector.get("json_bare", vector["json"]))
                json.loads(vector["json"])

    def test_channel_of_small_pieces(self):
        import socket
        import threading

        ours, theirs = socket.socketpair()
        frames = [v for v in VECTORS["frames"] if v["from"] == "server" and "frame" in v] * 3
        big = protocol.frame(protocol.CALL, bytes(300_000), 5)
        data = b"".join(bytes.fromhex(v["hex"]) for v in frames) + big + bytes.fromhex(frames[0]["hex"])

        def feed():
            for i in range(0, len(data), 7919 if len(data) > 1 << 20 else 1009):
                theirs.sendall(data[i : i + 1009])
            theirs.close()

        thread = threading.Thread(target=feed)
        thread.start()
        channel = protocol.Channel(ours)
        for vector in frames:
            kind, call, body = channel.receive()
            self.assertEqual((kind, call, body.hex()), tuple(vector["frame"][k] for k in ("kind", "call", "body_hex")))
        self.assertEqual(len(channel.receive()[2]), 300_000)
        self.assertEqual(channel.receive()[0], frames[0]["frame"]["kind"])
        with self.assertRaises(protocol.Closed):
            channel.receive()
        thread.join()
        ours.close()


if __name__ == "__main__":
    assert harness and os
    unittest.main()
