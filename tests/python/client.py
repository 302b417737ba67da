"""A client in Python, made from the protos alone: client.py PROTO_DIRECTORY ADDRESS NODE_NAME.

Wants grpcio and grpcio-tools. Lists the node, labels it, watches until the label has come by a delta, and reads what is
wrong with a call that is wrong. Ends with 0 if all of it is as the protos say.
"""

import pathlib
import sys
import tempfile

import grpc
import grpc_tools
from grpc_tools import protoc


def generate(protos: pathlib.Path, into: str) -> None:
    files = [str(path) for path in sorted(protos.glob("wyneos/v1/*.proto"))]
    google = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    if protoc.main(["protoc", f"-I{protos}", f"-I{google}", f"--python_out={into}", f"--grpc_python_out={into}", *files]) != 0:
        sys.exit("the protos do not compile for Python")
    sys.path.insert(0, into)


def main(protos: str, address: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        generate(pathlib.Path(protos), directory)
        from wyneos.v1 import cluster_pb2, cluster_pb2_grpc, coherence_pb2, coherence_pb2_grpc

        with grpc.insecure_channel(address) as channel:
            cluster = cluster_pb2_grpc.ClusterServiceStub(channel)
            coherence = coherence_pb2_grpc.CoherenceServiceStub(channel)

            nodes = cluster.ListNodes(cluster_pb2.ListNodesRequest(), timeout=10).nodes
            assert [node.name for node in nodes] == [name], nodes

            watch = coherence.WatchSnapshots(coherence_pb2.WatchSnapshotsRequest(), timeout=30)
            first = next(watch)
            assert [node.name for node in first.full.nodes] == [name], first
            cycle = first.full.cycle

            request = cluster_pb2.LabelNodeRequest(node=name)
            request.set.add(key="made-by", value="python")
            cluster.LabelNode(request, timeout=10)
            for step in watch:
                assert step.delta.from_cycle == cycle, step
                cycle = step.delta.changed.cycle
                labels = [label for node in step.delta.changed.nodes for label in node.labels]
                if any((label.key, label.value) == ("made-by", "python") for label in labels):
                    break
            watch.cancel()

            try:
                cluster.CordonNode(cluster_pb2.CordonNodeRequest(node="nobody"), timeout=10)
                sys.exit("an unknown node was cordoned")
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.NOT_FOUND, error


main(*sys.argv[1:])
