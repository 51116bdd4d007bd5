"""PySpark doing what ours does: word count over RDDs or a DataFrame, and an inverted index. Usage:
spark_jobs.py rdd|frame|index INPUT OUTPUT"""
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, concat_ws, explode, split

what, source, target = sys.argv[1:]
session = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.memory", "4g")
    .config("spark.sql.shuffle.partitions", "4")
    .getOrCreate()
)
session.sparkContext.setLogLevel("ERROR")
context = session.sparkContext
if what == "rdd":
    counts = (
        context.textFile(source)
        .flatMap(lambda line: line.split())
        .map(lambda word: (word, 1))
        .reduceByKey(lambda one, other: one + other, 4)
    )
    counts.map(lambda pair: f"{pair[0]}\t{pair[1]}").saveAsTextFile(target)
elif what == "frame":
    words = session.read.text(source).select(explode(split(col("value"), r"\s+")).alias("word"))
    counts = words.where(col("word") != "").groupBy("word").count()
    counts.select(concat_ws("\t", "word", col("count").cast("string"))).write.text(target)
else:
    names = (
        context.wholeTextFiles(source, 8)
        .flatMap(lambda file: [(word, file[0].rsplit("/", 1)[1]) for word in set(file[1].split())])
        .groupByKey(4)
        .map(lambda entry: entry[0] + "\t" + " ".join(sorted(set(entry[1]))))
    )
    names.saveAsTextFile(target)
session.stop()
