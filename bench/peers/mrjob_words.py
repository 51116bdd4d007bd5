"""mrjob's word count, with a combiner."""
from mrjob.job import MRJob
from mrjob.protocol import RawValueProtocol


class Words(MRJob):
    OUTPUT_PROTOCOL = RawValueProtocol

    def mapper(self, _, line):
        for word in line.split():
            yield word, 1

    def combiner(self, word, counts):
        yield word, sum(counts)

    def reducer(self, word, counts):
        yield None, f"{word}\t{sum(counts)}"


if __name__ == "__main__":
    Words.run()
